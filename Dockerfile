# One image for every Airflow service of docker-compose.yaml, and for the sandbox.
FROM apache/airflow:3.3.2-python3.11
COPY requirements-image.txt .
RUN pip install --no-cache-dir --require-hashes -r requirements-image.txt
COPY --chown=airflow:root dags dags
COPY --chown=airflow:root include include
COPY --chown=airflow:root plugins plugins
COPY --chown=airflow:root recipes recipes
# A volume takes over the owner of the folder that it is mounted on.
RUN mkdir sandbox
ENV PYTHONPATH=/opt/airflow
