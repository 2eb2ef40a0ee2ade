"""The commands of bbq, one file a question: options and help here, the question itself in `history.questions`."""
