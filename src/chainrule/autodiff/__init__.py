"""Derivatives of functions: automatic, numerical, symbolic, and the check of each."""

from chainrule.autodiff.derivatives import *
from chainrule.autodiff.gradient_check import *
from chainrule.autodiff.numerical import *
from chainrule.autodiff.per_example import *
from chainrule.autodiff.symbolic import *
