"""Everything that is measured against raincheck, and raincheck itself."""
