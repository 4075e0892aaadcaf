"""How stages are built: prompts optimized, models fine-tuned, jobs that are never lost or paid twice."""
