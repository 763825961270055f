{{/*
What of the catalogue becomes resources: the entries that `catalogue.run` names, with `catalogue.show` all others that an
engine serves, suspended, and the engines of both.
*/}}

{{/* roundhouse.catalogueNamespace: where its resources are. Takes the root. */}}
{{- define "roundhouse.catalogueNamespace" -}}
{{- $served := include "roundhouse.operatorNamespaces" . | splitList "," -}}
{{- $wanted := default (first $served | replace "*" .Release.Namespace) .Values.catalogue.namespace -}}
{{- if not (or (has "*" $served) (has $wanted $served)) -}}
{{- fail (printf "catalogue.namespace: the operator does not serve %q, only %s: add it to `operator.namespaces`" $wanted (join ", " $served)) -}}
{{- end -}}
{{- $wanted -}}
{{- end -}}

{{/* roundhouse.runs: the `object` of each of `models` that `catalogue.run` names, separated by commas. */}}
{{- define "roundhouse.runs" -}}
{{- $models := .models -}}
{{- range $index, $wanted := .root.Values.catalogue.run -}}
{{- $found := include "roundhouse.entriesNamed" (dict "models" $models "name" $wanted) | splitList "," | compact -}}
{{- if not $found -}}
{{- $found = include "roundhouse.entriesOf" (dict "models" $models "repo" $wanted) | splitList "," | compact -}}
{{- end -}}
{{- if not $found -}}
{{- $names := list -}}
{{- range $models -}}{{- $names = append $names .name -}}{{- end -}}
{{- fail (printf "catalogue.run[%d]: there is no model %q. Add it to `models`, or take one of: %s" $index $wanted (sortAlpha $names | join ", ")) -}}
{{- else if gt (len $found) 1 -}}
{{- fail (printf "catalogue.run[%d]: %q are the weights of several models, of which one must be named: %s" $index $wanted (join ", " $found)) -}}
{{- end -}}
{{- first $found -}},
{{- end -}}
{{- end -}}

{{/* roundhouse.checkServable: refuses an `entry` that `catalogue.run` names and nothing can serve. `engine` is its engine. */}}
{{- define "roundhouse.checkServable" -}}
{{- $catalogue := .root.Values.catalogue -}}
{{- if not (dig "enabled" true .entry) -}}
{{- fail (printf "catalogue.run: %q cannot be served: %s. With an engine that can, lay `enabled: true` and its name in `engine` over it in `models`" .entry.name (default "its entry says `enabled: false`" .entry.reason)) -}}
{{- end -}}
{{- $mode := dig "hardware" "gpu" "mode" (dig "hardware" "gpu" "mode" "" .engine) .entry -}}
{{- if and (eq $mode "Required") (dig "image" "gpu" false .engine) (not $catalogue.gpuImages) -}}
{{- fail (printf "catalogue.run: %q needs a GPU, and the engine %q its image for GPUs. Where the cluster has both, set `catalogue.gpuImages: true`; else lay an engine for CPUs over it in `models`: {name: %s, engine: %s}" .entry.name .entry.engine .entry.name (trimSuffix "-gpu" .entry.engine)) -}}
{{- end -}}
{{- if and .entry.gated (not $catalogue.hubToken.secretName) (not (dig "source" "huggingFace" "tokenSecretRef" "" .entry)) -}}
{{- fail (printf "catalogue.run: %q is gated: accept its terms at https://huggingface.co/%s, put a token of that account into a Secret with the label roundhouse.dev/credential=weights, and name it in `catalogue.hubToken.secretName`" .entry.name .entry.repo) -}}
{{- end -}}
{{- end -}}

{{/* roundhouse.checkIds: refuses two of `models` that answer to one id. */}}
{{- define "roundhouse.checkIds" -}}
{{- $ids := dict -}}
{{- range $entry := .models -}}
{{- range concat (list .name) (default list .alternateNames) (default list .aliases) -}}
{{- if hasKey $ids . -}}
{{- fail (printf "models: %q and %q both answer to %q: take it from the `alternateNames` or `aliases` of one, or change its `name`" (get $ids .) $entry.object .) -}}
{{- end -}}
{{- $_ := set $ids . $entry.object -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* roundhouse.catalogue: {"engines": {name: engine}, "models": [entry]} as JSON, of what is rendered; an entry says `runs`. Takes the root. */}}
{{- define "roundhouse.catalogue" -}}
{{- $engines := include "roundhouse.engines" . | fromJson -}}
{{- $models := (include "roundhouse.models" . | fromJson).models -}}
{{- $runs := include "roundhouse.runs" (dict "root" . "models" $models) | splitList "," | compact -}}
{{- $made := list -}}
{{- $used := dict -}}
{{- range $entry := $models -}}
{{- $runs := has .object $runs -}}
{{- $engine := dict -}}
{{- if and .engine (not (hasKey $engines .engine)) -}}
{{- fail (printf "models: the entry %q wants an engine %q, which there is not. Add it to `engines`, or take one of: %s" .name .engine (keys $engines | sortAlpha | join ", ")) -}}
{{- else if .engine -}}
{{- $engine = get $engines .engine -}}
{{- else if and (dig "enabled" true .) (not .engineSelector) -}}
{{- fail (printf "models: the entry %q says no `engine` that serves it" .name) -}}
{{- end -}}
{{- if $runs -}}
{{- include "roundhouse.checkServable" (dict "root" $ "entry" . "engine" $engine) -}}
{{- end -}}
{{- if and (or $runs $.Values.catalogue.show) (dig "enabled" true .) -}}
{{- $made = append $made (merge (dict "runs" $runs) .) -}}
{{- if .engine -}}{{- $_ := set $used .engine $engine -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- include "roundhouse.checkIds" (dict "models" $made) -}}
{{- dict "engines" $used "models" $made | toJson -}}
{{- end -}}

{{/* roundhouse.checkEngine: refuses the `spec` of the engine `name` that says too little for a pod. */}}
{{- define "roundhouse.checkEngine" -}}
{{- if not .spec.workload.image -}}
{{- fail (printf "engines: %q says no image: one of image.registry in `image: {name: …}`, or any in `workload: {image: …}`" .name) -}}
{{- end -}}
{{- if not (dig "hardware" "gpu" "mode" "" .spec) -}}
{{- fail (printf "engines: %q says no `hardware: {gpu: {mode: …}}`: Required, Optional or None" .name) -}}
{{- end -}}
{{- end -}}

{{/* roundhouse.engineSpec: the spec of an `engine` of the catalogue by its `name`, as YAML. */}}
{{- define "roundhouse.engineSpec" -}}
{{- $root := .root -}}
{{- $engine := .engine -}}
{{- $spec := dict "version" $root.Chart.AppVersion "interfaces" (list "Batch") -}}
{{- include "roundhouse.layOver" (dict "into" $spec "over" (omit $engine "image")) -}}
{{- if ne (default "Workload" $spec.type) "Upstream" -}}
{{- $base := dict "imagePullPolicy" $root.Values.image.pullPolicy -}}
{{- with $root.Values.imagePullSecrets -}}{{- $_ := set $base "imagePullSecrets" . -}}{{- end -}}
{{- with $engine.image -}}
{{- $tag := default (default $root.Chart.AppVersion $root.Values.image.tag) .tag -}}
{{- $suffix := ternary "-cuda" "" (and (default false .gpu) $root.Values.catalogue.gpuImages) -}}
{{- $_ := set $base "image" (printf "%s/%s:%s%s" (trimSuffix "/" $root.Values.image.registry) .name $tag $suffix) -}}
{{- if and .gpu (not $root.Values.catalogue.gpuImages) (eq (dig "hardware" "gpu" "mode" "" $spec) "Optional") -}}
{{- /* The image for CPUs would hold a GPU and not use it. */ -}}
{{- $_ := set $spec.hardware "gpu" (dict "mode" "None") -}}
{{- end -}}
{{- end -}}
{{- $_ := set $spec "workload" (merge (default dict $spec.workload) $base) -}}
{{- include "roundhouse.checkEngine" (dict "name" .name "spec" $spec) -}}
{{- if not $spec.serving -}}{{- $_ := set $spec "serving" (dict "type" "Dedicated") -}}{{- end -}}
{{- if not $spec.cache -}}{{- $_ := set $spec "cache" $root.Values.catalogue.cache -}}{{- end -}}
{{- end -}}
{{- toYaml $spec -}}
{{- end -}}

{{/* roundhouse.variantSpec: the spec of the ModelVariant of an `entry`, as YAML. `engine` is its engine. */}}
{{- define "roundhouse.variantSpec" -}}
{{- $entry := .entry -}}
{{- $spec := omit $entry "name" "object" "repo" "engine" "enabled" "reason" "gated" "runs" -}}
{{- $_ := set $spec "servedName" $entry.name -}}
{{- if not $entry.engineSelector -}}{{- $_ := set $spec "engineRef" (dict "name" $entry.engine) -}}{{- end -}}
{{- $source := default dict $spec.source -}}
{{- if not $source.type -}}{{- $_ := set $source "type" (ternary "HuggingFace" "Builtin" (ne (default "" $entry.repo) "")) -}}{{- end -}}
{{- if eq $source.type "HuggingFace" -}}
{{- $hub := dict "repo" $entry.repo -}}
{{- $token := .root.Values.catalogue.hubToken -}}
{{- if and $entry.gated $token.secretName -}}
{{- $_ := set $hub "tokenSecretRef" (dict "name" $token.secretName "key" $token.key) -}}
{{- end -}}
{{- $_ := set $source "huggingFace" (merge (default dict $source.huggingFace) $hub) -}}
{{- end -}}
{{- if and (not $source.format) .engine.formats -}}{{- $_ := set $source "format" (first .engine.formats) -}}{{- end -}}
{{- $_ := set $spec "source" $source -}}
{{- if not $entry.runs -}}{{- $_ := set $spec "suspend" true -}}{{- end -}}
{{- toYaml $spec -}}
{{- end -}}
