{{/*
What the pods of operator and gateway have in common. All take (dict "root" $ "component" "…").
*/}}

{{/* roundhouse.podMetadata: labels and annotations of a pod template. No version: a chart that changes nothing of a pod rolls none. */}}
{{- define "roundhouse.podMetadata" -}}
{{- $values := index .root.Values .component -}}
labels:
  {{- include "roundhouse.selectorLabels" . | nindent 2 }}
  app.kubernetes.io/part-of: roundhouse
  {{- with $values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* roundhouse.podSpec: all of a pod's spec but its containers, volumes and how long it may take to end. */}}
{{- define "roundhouse.podSpec" -}}
{{- $values := index .root.Values .component -}}
{{- $selector := dict "matchLabels" (include "roundhouse.selectorLabels" . | fromYaml) -}}
serviceAccountName: {{ include "roundhouse.serviceAccountName" . }}
automountServiceAccountToken: true
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - {{ merge (dict) . (dict "labelSelector" $selector) | toYaml | nindent 4 | trim }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* roundhouse.image: reference of one of the project's images. Takes (dict "root" $ "name" "…"). */}}
{{- define "roundhouse.image" -}}
{{- $image := .root.Values.image -}}
{{- printf "%s/%s:%s" (trimSuffix "/" $image.registry) .name (default .root.Chart.AppVersion $image.tag) -}}
{{- end -}}

{{/* roundhouse.container: name, image, rights and resources of a component's one container. */}}
{{- define "roundhouse.container" -}}
{{- $values := index .root.Values .component -}}
name: {{ .component }}
image: {{ include "roundhouse.image" (dict "root" .root "name" .component) | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- with $values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
