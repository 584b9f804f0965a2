{{- define "fusecache.labels" -}}
app.kubernetes.io/name: fusecache
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: fusecache
{{- end -}}

{{- /* What a part is found by: never changes in the life of an installation. */ -}}
{{- define "fusecache.selector" -}}
app.kubernetes.io/name: fusecache
app.kubernetes.io/component: {{ . }}
{{- end -}}

{{- define "fusecache.pull" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- end -}}
