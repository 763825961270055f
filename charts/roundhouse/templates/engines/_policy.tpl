{{- /* roundhouse.enginePolicy: who may reach the engines of a namespace. Engines know no keys: whoever reaches one may
use it. Takes "root", and "namespace" where it is to be named. */}}
{{- define "roundhouse.enginePolicy" -}}
{{- $ := .root -}}
{{- $engines := dict "root" $ "component" "engines" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  # Several releases may serve a namespace; a colon as in the roles' names is not allowed here.
  name: {{ printf "%s.%s" (include "roundhouse.componentName" $engines) $.Release.Namespace }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "roundhouse.labels" $engines | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      roundhouse.dev/managed: "true"
  policyTypes: [Ingress]
  ingress:
    - ports:
        - port: http
      from:
        {{- range list "gateway" "operator" }}
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: {{ $.Release.Namespace }}
          podSelector:
            matchLabels:
              {{- include "roundhouse.selectorLabels" (dict "root" $ "component" .) | nindent 14 }}
        {{- end }}
        {{- with $.Values.networkPolicy.metricsFrom }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    # How far a loader is.
    - ports:
        - port: progress
      from:
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: {{ $.Release.Namespace }}
          podSelector:
            matchLabels:
              {{- include "roundhouse.selectorLabels" (dict "root" $ "component" "operator") | nindent 14 }}
{{- end }}
