"""`captionlab tune`: a search for the options that validate best, each trial a run folder."""
