"""What can be known to go wrong is said before the first node: options, files, disk.

``hook`` lists the checks; each looks only at what the chosen nodes take and make (``planned_run``),
and gives a sentence for every fault.
"""
