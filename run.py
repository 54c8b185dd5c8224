from captionlab.runs.main import main

main()
