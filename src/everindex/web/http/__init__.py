"""HTTP itself: connections, the envelope, errors, inputs; imports no page, no handler and no report."""
