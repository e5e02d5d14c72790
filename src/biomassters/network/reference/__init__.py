"""The published weights of the challenge's first place, read without running anything in them.

``convert`` makes a network of this project of them, from what ``checkpoint_file`` reads.
"""
