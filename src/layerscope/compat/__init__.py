"""Published interfaces of other libraries, thin over layerscope: a script runs with one changed import line."""
