"""The measured systems, one file each, run as their documentation says."""
