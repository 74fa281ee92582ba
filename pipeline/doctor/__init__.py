"""`cliptune doctor`: what `dvc repro` will do, told before anything is run or written."""
