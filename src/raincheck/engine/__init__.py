"""What can be asked of jobs, below every face: Python, HTTP, worker and command line stand on `Engine`.

`raincheck.engine.engine` has it; the parts are modules of their own.
"""
