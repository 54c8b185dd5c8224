"""What is there for speed alone, each beside its plain reference, to which it is tested equal."""
