"""GPT-J Playground: a page, a terminal and a worker process around GPT-J."""
