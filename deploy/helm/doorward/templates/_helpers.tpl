{{- define "doorward.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "doorward.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "doorward.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "doorward.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "doorward.selector" -}}
app.kubernetes.io/name: {{ include "doorward.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "doorward.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "doorward.selector" . }}
{{- end -}}

{{- define "doorward.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "doorward.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "doorward.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- define "doorward.secret" -}}
{{- if .Values.secret.existing -}}
{{ .Values.secret.existing }}
{{- else -}}
{{- if not .Values.secret.data -}}
{{- fail "set secret.existing to a Secret with the files that config names, or secret.data to their contents" -}}
{{- end -}}
{{ include "doorward.fullname" . }}
{{- end -}}
{{- end -}}

{{/* Where sessions are kept: as the environment says, else the file, where that is no comment. */}}
{{- define "doorward.store" -}}
{{- $store := "cookie" -}}
{{- range list "memory" "redis" -}}
{{- if regexMatch (printf `(?m)^[^#\n]*\bstore["']?[ \t]*=[ \t]*["']%s["']` .) $.Values.config -}}{{- $store = . -}}{{- end -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if eq .name "DOORWARD_SESSION__STORE" -}}{{- $store = .value | default $store -}}{{- end -}}
{{- end -}}
{{- $store -}}
{{- end -}}

{{/* What the chart itself knows; these win over the file. */}}
{{- define "doorward.env" -}}
- name: DOORWARD_SERVER__LISTEN
  value: '["0.0.0.0:4180"]'
- name: DOORWARD_ADMIN__LISTEN
  value: "0.0.0.0:9180"
- name: DOORWARD_SERVER__DRAIN_DELAY
  value: {{ printf "%ds" (int .Values.drain.delaySeconds) }}
- name: DOORWARD_SERVER__DRAIN_TIMEOUT
  value: {{ printf "%ds" (int .Values.drain.timeoutSeconds) }}
{{- if .Values.tls.secret }}
- name: DOORWARD_SERVER__TLS__CERT
  value: /etc/doorward/tls/tls.crt
- name: DOORWARD_SERVER__TLS__KEY
  value: /etc/doorward/tls/tls.key
{{- end }}
{{- if .Values.grpc.enabled }}
- name: DOORWARD_FORWARD_AUTH__GRPC_LISTEN
  value: {{ printf "0.0.0.0:%d" (int .Values.grpc.port) }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "doorward.volumeMounts" -}}
- name: config
  mountPath: /etc/doorward/config
  readOnly: true
- name: secrets
  mountPath: /run/secrets/doorward
  readOnly: true
{{- if .Values.tls.secret }}
- name: tls
  mountPath: /etc/doorward/tls
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "doorward.volumes" -}}
- name: config
  configMap:
    name: {{ include "doorward.fullname" . }}
- name: secrets
  secret:
    secretName: {{ include "doorward.secret" . }}
    defaultMode: 0440
{{- if .Values.tls.secret }}
- name: tls
  secret:
    secretName: {{ .Values.tls.secret }}
    defaultMode: 0440
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
