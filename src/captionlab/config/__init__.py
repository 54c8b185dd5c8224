"""Configuration: shapes and types of every option, checks, and the one door to objects."""
