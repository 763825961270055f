{{/*
Names and labels. A component is "operator" or "gateway"; helpers that need one take (dict "root" $ "component" "…").
*/}}

{{/* roundhouse.name: the chart's name, as `app.kubernetes.io/name`. Takes the root. */}}
{{- define "roundhouse.name" -}}
{{- default .Chart.Name .Values.nameOverride -}}
{{- end -}}

{{/*
roundhouse.fullname: what the names of objects begin with. A release may have dots in its name and begin with a digit,
a Service may not. Takes the root.
*/}}
{{- define "roundhouse.fullname" -}}
{{- $name := include "roundhouse.name" . -}}
{{- $release := .Release.Name | replace "." "-" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if regexMatch "^[0-9]" $release -}}
{{- fail (printf "the release's name %q begins with a digit, which the names of Services may not: take another, or set fullnameOverride" .Release.Name) -}}
{{- else if contains $name $release -}}
{{- $release | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" $release $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* roundhouse.componentName: name of a component's objects in the release's namespace. */}}
{{- define "roundhouse.componentName" -}}
{{- printf "%s-%s" (include "roundhouse.fullname" .root) .component -}}
{{- end -}}

{{/* roundhouse.clusterName: name of objects outside of the release's namespace; two releases never share one. */}}
{{- define "roundhouse.clusterName" -}}
{{- printf "%s:%s" .root.Release.Namespace (include "roundhouse.componentName" .) -}}
{{- end -}}

{{/* roundhouse.selectorLabels: what picks a component's pods. Never changes over a release's life. */}}
{{- define "roundhouse.selectorLabels" -}}
app.kubernetes.io/name: {{ include "roundhouse.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* roundhouse.labels: labels of every object. */}}
{{- define "roundhouse.labels" -}}
{{ include "roundhouse.selectorLabels" . }}
app.kubernetes.io/part-of: roundhouse
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* roundhouse.serviceAccountName: the account of a component's pods. */}}
{{- define "roundhouse.serviceAccountName" -}}
{{- $account := (index .root.Values .component).serviceAccount -}}
{{- if $account.create -}}
{{- default (include "roundhouse.componentName" .) $account.name -}}
{{- else -}}
{{- required (printf "%s.serviceAccount.name is needed where %s.serviceAccount.create is off" .component .component) $account.name -}}
{{- end -}}
{{- end -}}

{{/* roundhouse.operatorNamespaces: namespaces that the operator serves, separated by commas; "*" is all. Takes the root. */}}
{{- define "roundhouse.operatorNamespaces" -}}
{{- default (list .Release.Namespace) .Values.operator.namespaces | join "," -}}
{{- end -}}

{{/* roundhouse.gatewayNamespaces: namespaces that the gateway serves, in order, separated by commas. Takes the root. */}}
{{- define "roundhouse.gatewayNamespaces" -}}
{{- default (list .Release.Namespace) .Values.gateway.namespaces | join "," -}}
{{- end -}}

{{/* roundhouse.bytes: a quantity with Ki, Mi, Gi or without unit, as a number of bytes. Takes the quantity. */}}
{{- define "roundhouse.bytes" -}}
{{- $units := dict "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 -}}
{{- $text := kindIs "string" . | ternary (toString .) (int64 . | toString) -}}
{{- $factor := 1 -}}
{{- range $unit, $size := $units -}}
{{- if hasSuffix $unit $text -}}{{- $factor = $size -}}{{- end -}}
{{- end -}}
{{- mul (regexFind "^[0-9]+" $text | int64) $factor -}}
{{- end -}}
