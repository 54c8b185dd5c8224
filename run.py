from captionlab.runs.stopping import catch_signals, outlive_reader

catch_signals()  # before torch is imported, which takes seconds
outlive_reader()

from captionlab.runs.main import main  # noqa: E402

main()
