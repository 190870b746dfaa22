"""The evaluation itself: everything below knows nothing of Airflow, except operators."""
