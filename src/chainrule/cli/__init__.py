"""The command line: a face over ``chainrule.tasks`` with no logic of its own.

Exit codes: 0 done; 2 the command cannot be carried out as it was given (options, files,
data); 1 it failed while it ran (a loss that is not finite, a download, memory); 130
stopped with Ctrl-C. Errors go to standard error; ``--debug`` adds the traceback.
"""

from chainrule.cli.app import main

__all__ = ["main"]
