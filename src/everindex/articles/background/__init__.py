"""Work beside the answers: the keeper, warming, the sample of queries; above the instance, imported by commands alone."""
