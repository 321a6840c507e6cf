"""The op table: one class and one function for each operation."""

from chainrule.ops.activations import *
from chainrule.ops.adaptive import *
from chainrule.ops.convolution import *
from chainrule.ops.elementwise import *
from chainrule.ops.indexing import *
from chainrule.ops.linalg import *
from chainrule.ops.normalization import *
from chainrule.ops.patches import *
from chainrule.ops.pooling import *
from chainrule.ops.random import *
from chainrule.ops.reduce import *
from chainrule.ops.resizing import *
from chainrule.ops.shape import *
