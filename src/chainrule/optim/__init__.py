"""How weights change: update rules, schedules, clipping, averages, random search."""

from chainrule.optim.average import *
from chainrule.optim.clipping import *
from chainrule.optim.optimizer import *
from chainrule.optim.rules import *
from chainrule.optim.schedules import *
from chainrule.optim.search import *
