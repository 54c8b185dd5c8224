from captionlab.runs.stopping import catch_signals

catch_signals()  # before torch is imported, which takes seconds

from captionlab.runs.main import main  # noqa: E402

main()
