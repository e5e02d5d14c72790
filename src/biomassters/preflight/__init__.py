"""What can be known to go wrong is said before the first node: options, files, disk.

``checks.py`` lists the checks; each looks only at what the chosen nodes take and make.
"""
