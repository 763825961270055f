-- Health of Roundhouse's resources for Argo CD, by `Ready` and `observedGeneration` alone.
-- docs/guides/gitops.md says where it goes.

-- Reasons for which a resource is not Ready yet and gets there without anybody's help.
local passing = {
  Pending = true,
  Starting = true,
  RollingOut = true,
  Downloading = true,
  FetchedAtStart = true,
  VolumePending = true,
  Verifying = true,
  WaitingForTurn = true,
  Queued = true,
}

-- Reasons for which nothing runs because nobody wants it to.
local resting = {
  Suspended = true,
  ScaledToZero = true,
  NotActive = true,
  NothingToServe = true,
}

local status = obj.status or {}
local ready = nil
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Ready" then
    ready = condition
  end
end

if ready == nil then
  return { status = "Progressing", message = "The operator has not looked at it yet" }
end
if status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "The operator has not looked at the newest spec yet" }
end
if ready.status == "True" then
  return { status = "Healthy", message = ready.message }
end

local message = ready.reason .. ": " .. (ready.message or "")
if resting[ready.reason] then
  return { status = "Suspended", message = message }
end
if ready.status == "Unknown" or passing[ready.reason] then
  return { status = "Progressing", message = message }
end
return { status = "Degraded", message = message }
