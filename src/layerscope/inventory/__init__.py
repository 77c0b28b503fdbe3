"""What a model has to read: one forward pass, watched, gives every site with its role, axes and firing rule."""

from ._layer import Layer as Layer
from ._layer import Layers as Layers
from ._layer import Role as Role
from ._select import Selection as Selection
from ._select import Selector as Selector
from ._select import at_inputs as at_inputs
from ._select import default_choice as default_choice
from ._select import find as find
from ._select import matches as matches
from ._select import select as select
from ._select import wants_inputs as wants_inputs
from ._select import with_rules as with_rules
