"""What a swarm decided: words, terminal tables, the plan of an update, the graph of its history, the HTML page."""
