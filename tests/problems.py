"""The types of problem documents, written out so that no change of their form goes unnoticed."""


def urn(name: str) -> str:
    """The type of the problem with this name."""
    return f"urn:raincheck:problem:{name}"
