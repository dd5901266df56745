"""May this call be made now, and if not, why and until when."""
