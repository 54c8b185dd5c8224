"""Configuration: shapes and types of every option, checks, and construction of a run's objects."""
