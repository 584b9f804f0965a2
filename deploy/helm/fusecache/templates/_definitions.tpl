{{- /*
Ends the installation if the cluster has definitions that are not this release's: those of Fluid, which have the same names, or our
own, applied by hand or by another release. What belongs to a release is written on every object by Helm itself. Without a cluster
(helm template) lookup finds nothing, and nothing is refused.
*/ -}}
{{- define "fusecache.refuseForeignDefinitions" -}}
{{- $foreign := list }}
{{- $elsewhere := list }}
{{- range $path, $content := .Files.Glob "definitions/*.yaml" }}
  {{- $name := printf "%s.data.fluid.io" (base $path | trimSuffix ".yaml") }}
  {{- $found := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" $name }}
  {{- if $found }}
    {{- $annotations := $found.metadata.annotations | default dict }}
    {{- $release := get $annotations "meta.helm.sh/release-name" }}
    {{- $namespace := get $annotations "meta.helm.sh/release-namespace" }}
    {{- if or (ne $release $.Release.Name) (ne $namespace $.Release.Namespace) }}
      {{- if eq (get ($found.metadata.labels | default dict) "fusecache.io/definition") "true" }}
        {{- $elsewhere = append $elsewhere $name }}
      {{- else }}
        {{- $foreign = append $foreign $name }}
      {{- end }}
    {{- end }}
  {{- end }}
{{- end }}
{{- if not .Values.definitions.adopt }}
  {{- $how := "add --set definitions.adopt=true --take-ownership (Helm 3.17 or newer)" }}
  {{- if $foreign }}
    {{- fail (printf "\n\nThis cluster has definitions of data.fluid.io that are not fusecache's, such as those of Fluid: %s.\nThey are left alone, and nothing was installed: a cluster has one set, and whoever installed it may be serving its Datasets now.\nTo replace them by fusecache's and keep all objects, %s.\n" (join ", " $foreign) $how) }}
  {{- else if $elsewhere }}
    {{- fail (printf "\n\nThis cluster has fusecache's definitions already, but not from the release %s in the namespace %s: %s.\nNothing was installed. To let this release have them and keep all objects, %s.\n" .Release.Name .Release.Namespace (join ", " $elsewhere) $how) }}
  {{- end }}
{{- end }}
{{- end -}}
