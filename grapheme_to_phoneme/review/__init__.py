"""Review of a lexicon: which of its entries models of the others would not have said."""
