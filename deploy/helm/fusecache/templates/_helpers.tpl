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

{{- /* What may run anywhere. */ -}}
{{- define "fusecache.unprivileged" -}}
{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
{{- end -}}

{{- /* Of a part's values: where its pods may run, and how important they are. */ -}}
{{- define "fusecache.placement" -}}
priorityClassName: {{ .priorityClassName | quote }}
tolerations: {{ toJson .tolerations }}
nodeSelector: {{ toJson .nodeSelector }}
affinity: {{ toJson .affinity }}
{{- end -}}

{{- /* A map of strings, a line each: labels that values add. */ -}}
{{- define "fusecache.strings" -}}
{{- range $name, $value := . }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end -}}

{{- /* Labels of a part's pods. No version: a new one alone is no reason to replace a pod. Arguments: root, the part. */ -}}
{{- define "fusecache.podLabels" -}}
{{- $root := index . 0 }}
{{- include "fusecache.selector" (index . 1) }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/part-of: fusecache
{{- include "fusecache.strings" (index $root.Values (index . 1)).podLabels }}
{{- end -}}

{{- /* Annotations of a part's pods. Arguments: root, the part's values, its port of metrics, 0 if it has none. */ -}}
{{- define "fusecache.podAnnotations" -}}
{{- $root := index . 0 }}
{{- $annotations := dict }}
{{- if and $root.Values.metrics.annotations (index . 2) }}
{{- $annotations = dict "prometheus.io/scrape" "true" "prometheus.io/port" (toString (index . 2)) "prometheus.io/path" "/metrics" }}
{{- end }}
annotations: {{ toJson (merge (deepCopy (index . 1).podAnnotations) $annotations) }}
{{- end -}}

{{- define "fusecache.extraArgs" -}}
{{- range .extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{- /* A sidecar answers for its leadership: one that lost the API server is started again. Argument: the name of its port. */ -}}
{{- define "fusecache.sidecarProbes" -}}
livenessProbe: {httpGet: {path: /healthz/leader-election, port: {{ . }}}, initialDelaySeconds: 10, periodSeconds: 20, timeoutSeconds: 10}
{{- end -}}

{{- /* Arguments: root, the name of the ClusterRole, and of the account. */ -}}
{{- define "fusecache.clusterRoleBinding" }}
{{- $root := index . 0 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ index . 1 }}
  labels: {{- include "fusecache.labels" $root | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ index . 1 }}}
subjects: [{kind: ServiceAccount, name: {{ index . 2 }}, namespace: {{ $root.Release.Namespace }}}]
{{- end -}}

{{- /* Directories of nodes that users may name: the same for whoever checks them, and under the same path for whoever opens them. */ -}}
{{- define "fusecache.rootArgs" -}}
{{- range .Values.node.cacheRoots }}
- --cache-root={{ . }}
{{- end }}
{{- range .Values.node.localRoots }}
- --local-root={{ . }}
{{- end }}
{{- end -}}

{{- /* Argument of both: the directories, each once. */ -}}
{{- define "fusecache.rootMounts" -}}
{{- range $number, $directory := . }}
- {name: root-{{ $number }}, mountPath: {{ $directory | quote }}, mountPropagation: HostToContainer}
{{- end }}
{{- end -}}

{{- define "fusecache.rootVolumes" -}}
{{- range $number, $directory := . }}
- {name: root-{{ $number }}, hostPath: {path: {{ $directory | quote }}, type: DirectoryOrCreate}}
{{- end }}
{{- end -}}
