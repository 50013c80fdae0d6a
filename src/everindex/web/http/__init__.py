"""HTTP itself: connections, the envelope, errors and inputs; imports no page, handler or report."""
