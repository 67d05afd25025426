"""Other ways to do the same work, to be timed beside the engine: PyTorch with MONAI, and nnU-Net's predictor.

Everything here needs the extras `export` and `monai`; the rest of the bench does without.
"""
