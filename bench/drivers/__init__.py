"""What runs within the process of a system that is measured; the bench drives it by lines of JSON."""
