"""The pages in the Airflow UI: what runs have come to, without leaving Airflow."""
