"""Networks: modules, layers, initial values, losses, penalties and ready models."""

from chainrule.nn.activations import *
from chainrule.nn.affine import *
from chainrule.nn.camera import *
from chainrule.nn.containers import *
from chainrule.nn.convolution import *
from chainrule.nn.dropout import *
from chainrule.nn.evaluating import *
from chainrule.nn.init import *
from chainrule.nn.inputs import *
from chainrule.nn.losses import *
from chainrule.nn.module import *
from chainrule.nn.normalization import *
from chainrule.nn.observing import *
from chainrule.nn.penalties import *
from chainrule.nn.pixel_losses import *
from chainrule.nn.pooling import *
from chainrule.nn.receptive_field import *
from chainrule.nn.shape import *
from chainrule.nn.summary import *
from chainrule.nn.zoo import *
