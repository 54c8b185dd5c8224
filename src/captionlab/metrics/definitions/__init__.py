"""One file per metric; every module here is imported by the registry."""
