"""How people and producers reach Penstock over HTTP."""
