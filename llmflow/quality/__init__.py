"""What the user of the LLM felt: the first token, the gaps, the stalls and who caused them."""
