{{/*
The catalogue's entries: those of files/catalogue, with the values `engines`, `models` and `modelsLocal` laid over them.
Dictionaries are changed in place, because what a template returns is text.
*/}}

{{/* roundhouse.layOver: lays `over` over `into`: maps member by member, null takes a member away, all else is replaced. */}}
{{- define "roundhouse.layOver" -}}
{{- range $key, $value := .over -}}
{{- $old := get $.into $key -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $.into $key -}}
{{- else if and (kindIs "map" $value) (kindIs "map" $old) -}}
{{- include "roundhouse.layOver" (dict "into" $old "over" $value) -}}
{{- else -}}
{{- $_ := set $.into $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* roundhouse.nameEntry: gives an `entry` that came from `place` its `repo`, `name` and `object`, where it does not say them. */}}
{{- define "roundhouse.nameEntry" -}}
{{- $entry := .entry -}}
{{- $repo := default (dig "source" "huggingFace" "repo" "" $entry) $entry.repo -}}
{{- if $repo -}}{{- $_ := set $entry "repo" $repo -}}{{- end -}}
{{- $_ := set $entry "name" (default $repo $entry.name) -}}
{{- if not $entry.object -}}
{{- $slug := regexReplaceAll "[^a-z0-9]+" (lower $entry.name) "-" | trimAll "-" -}}
{{- if not (regexMatch "^[a-z].{0,39}$" $slug) -}}
{{- fail (printf "%s: %q makes no metadata.name (%q: it must begin with a letter and have 40 characters at most): say one in `object`" .place $entry.name $slug) -}}
{{- end -}}
{{- $_ := set $entry "object" $slug -}}
{{- end -}}
{{- end -}}

{{/* roundhouse.entriesNamed: the `object` of each of `models` that is called `name`, separated by commas. */}}
{{- define "roundhouse.entriesNamed" -}}
{{- range .models -}}
{{- if or (eq $.name .name) (eq $.name .object) (has $.name (default list .alternateNames)) -}}{{- .object -}},{{- end -}}
{{- end -}}
{{- end -}}

{{/* roundhouse.entriesOf: the `object` of each of `models` whose weights are those of `repo`, separated by commas. */}}
{{- define "roundhouse.entriesOf" -}}
{{- range .models -}}
{{- if and $.repo (eq $.repo (default "" .repo)) -}}{{- .object -}},{{- end -}}
{{- end -}}
{{- end -}}

{{/* roundhouse.foundEntry: the `object` of the entry of `models` that an overlay's `entry` at `place` is meant for; empty: it is new. */}}
{{- define "roundhouse.foundEntry" -}}
{{- $repo := default (dig "source" "huggingFace" "repo" "" .entry) .entry.repo -}}
{{- $named := include "roundhouse.entriesNamed" (dict "models" .models "name" (default "" .entry.name)) | splitList "," | compact -}}
{{- $same := include "roundhouse.entriesOf" (dict "models" .models "repo" $repo) | splitList "," | compact -}}
{{- if not (or .entry.name $repo) -}}
{{- fail (printf "%s: an entry needs `name`, a public id, or `repo`, a repository of the Hugging Face Hub" .place) -}}
{{- else if and .entry.new $named -}}
{{- fail (printf "%s: %q is there already, so it cannot be `new`: take another `name`, or leave `new` out to change what is there" .place .entry.name) -}}
{{- else if $named -}}
{{- first $named -}}
{{- else if .entry.new -}}
{{- else if gt (len $same) 1 -}}
{{- fail (printf "%s: the weights of %q are those of several entries (%s): say in `name` which is meant, or `new: true` for one more" .place $repo (join ", " $same)) -}}
{{- else -}}
{{- join "" $same -}}
{{- end -}}
{{- end -}}

{{/* roundhouse.changeEntry: lays an overlay's `over` over the entry `into`. A source of another kind, or another way to an engine, takes the old one's place. */}}
{{- define "roundhouse.changeEntry" -}}
{{- $type := dig "source" "type" "" .over -}}
{{- if and $type (ne $type (dig "source" "type" "HuggingFace" .into)) -}}
{{- $_ := unset .into "source" -}}
{{- $_ := unset .into "repo" -}}
{{- end -}}
{{- $repo := dig "source" "huggingFace" "repo" "" .over -}}
{{- $meant := default $repo .over.repo -}}
{{- if and $meant (ne $meant (default "" .into.repo)) -}}
{{- $_ := unset (dig "source" "huggingFace" dict .into) "revision" -}}
{{- end -}}
{{- if .over.engineSelector -}}{{- $_ := unset .into "engine" -}}{{- end -}}
{{- if .over.engine -}}{{- $_ := unset .into "engineSelector" -}}{{- end -}}
{{- include "roundhouse.layOver" (dict "into" .into "over" (omit .over "new")) -}}
{{- if $repo -}}{{- $_ := set .into "repo" $repo -}}{{- end -}}
{{- end -}}

{{/* roundhouse.models: {"models": […]} as JSON: the files' entries, changed and added to as the values say. Takes the root. */}}
{{- define "roundhouse.models" -}}
{{- $models := list -}}
{{- range $path, $_ := .Files.Glob "files/catalogue/models/*.yaml" -}}
{{- range ($.Files.Get $path | fromYaml).models -}}
{{- include "roundhouse.nameEntry" (dict "entry" . "place" $path) -}}
{{- $models = append $models . -}}
{{- end -}}
{{- end -}}
{{- range $overlay := list "models" "modelsLocal" -}}
{{- $seen := dict -}}
{{- range $index, $given := index $.Values $overlay -}}
{{- $place := printf "%s[%d]" $overlay $index -}}
{{- $over := deepCopy $given -}}
{{- $object := include "roundhouse.foundEntry" (dict "models" $models "entry" $over "place" $place) -}}
{{- if $object -}}
{{- /* A name that found the entry may be another of its names; it becomes the public id where the repository found it. */ -}}
{{- if include "roundhouse.entriesNamed" (dict "models" $models "name" (default "" $over.name)) -}}
{{- $over = omit $over "name" -}}
{{- end -}}
{{- range $models -}}
{{- if eq .object $object -}}{{- include "roundhouse.changeEntry" (dict "into" . "over" $over) -}}{{- end -}}
{{- end -}}
{{- else -}}
{{- if not (or $over.engine $over.engineSelector) -}}
{{- fail (printf "%s: no entry of the catalogue is called %q or has these weights, so it is a new one, which needs `engine`. Its names are in docs/reference/catalogue.md" $place (default $over.repo $over.name)) -}}
{{- end -}}
{{- include "roundhouse.nameEntry" (dict "entry" $over "place" $place) -}}
{{- $object = $over.object -}}
{{- $models = append $models (omit $over "new") -}}
{{- end -}}
{{- if hasKey $seen $object -}}
{{- fail (printf "%s: it is about the same entry as %s, %q: make one of the two" $place (get $seen $object) $object) -}}
{{- end -}}
{{- $_ := set $seen $object $place -}}
{{- end -}}
{{- end -}}
{{- $objects := dict -}}
{{- range $models -}}
{{- if hasKey $objects .object -}}
{{- fail (printf "models: %q and %q both have the metadata.name %q: say another in the `object` of one" (get $objects .object) .name .object) -}}
{{- end -}}
{{- $_ := set $objects .object .name -}}
{{- end -}}
{{- dict "models" $models | toJson -}}
{{- end -}}

{{/* roundhouse.engines: every engine by name, as JSON: the file's, changed and added to by `engines`. Takes the root. */}}
{{- define "roundhouse.engines" -}}
{{- $engines := .Files.Get "files/catalogue/engines.yaml" | fromYaml -}}
{{- $seen := dict -}}
{{- range $index, $given := .Values.engines -}}
{{- $place := printf "engines[%d]" $index -}}
{{- $over := deepCopy $given -}}
{{- if hasKey $seen $over.name -}}
{{- fail (printf "%s: it is about the same engine as %s, %q: make one of the two" $place (get $seen $over.name) $over.name) -}}
{{- end -}}
{{- $_ := set $seen $over.name $place -}}
{{- if hasKey $engines $over.name -}}
{{- include "roundhouse.layOver" (dict "into" (get $engines $over.name) "over" (omit $over "name")) -}}
{{- else -}}
{{- if not (and $over.stage (or $over.image $over.workload $over.upstream)) -}}
{{- fail (printf "%s: the catalogue has no engine %q, so it is a new one, which needs `stage` and one of `image`, `workload` and `upstream`" $place $over.name) -}}
{{- end -}}
{{- $_ := set $engines $over.name (omit $over "name") -}}
{{- end -}}
{{- end -}}
{{- toJson $engines -}}
{{- end -}}
