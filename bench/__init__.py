"""The provider's cost, compared with alternatives."""
