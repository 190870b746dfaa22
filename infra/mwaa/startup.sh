# Read by every Airflow process of the environment before it starts.
# Where evaluations, models and environments lie in the bucket.
export NOVA_JUDGE_CONFIG_DIR=/usr/local/airflow/dags
# Of evaluations that name no environment: a file in dags/environments/, without .yaml.
export NOVA_JUDGE_ENVIRONMENT=production
# A pool for judge jobs, made once in the UI: as many slots as the quota has instances, with
# deferred tasks. Until then judge jobs wait in the default pool.
# export NOVA_JUDGE_POOL=nova_judge
