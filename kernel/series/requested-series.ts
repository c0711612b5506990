import { join } from 'node:path';
import { Failure } from '#runner/lib/failure.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import type { Profile } from '../profile.ts';
import { loadSeries } from './load-series.ts';
import { prefixOf, type Series } from './series.ts';

export interface SeriesRequest {
  readonly profile: Profile;
  readonly series?: string | undefined;
  /** The series itself, read before: what `series` names is not read again. */
  readonly loaded?: Series | undefined;
  readonly patches?: number | undefined;
  readonly tree?: string | undefined;
  readonly ref?: string | undefined;
  readonly role: 'base' | 'patched';
}

export interface RequestedSeries {
  /** `undefined` for a kernel without patches. */
  readonly series: Series | undefined;
  /** The commit to build from: the request's, else where a git range starts. */
  readonly ref: string | undefined;
}

/** The user's series, else the profile's; none for a base kernel, which still starts where a range starts. */
export async function requestedSeries(request: SeriesRequest, signal: AbortSignal): Promise<RequestedSeries> {
  const spec = request.series ?? ofProfile(request.profile);
  if (spec === undefined) {
    if ((request.patches ?? 0) > 0)
      throw new Failure('E_USAGE', 'user', `${request.patches} patches are wanted, and there is no series`);
    return { series: undefined, ref: request.ref };
  }
  const { series, base } =
    request.loaded === undefined
      ? await loadSeries(spec, request.tree, signal)
      : { series: request.loaded, base: undefined };
  const ref = request.ref ?? base;
  if (request.role === 'base' || request.patches === 0) return { series: undefined, ref };
  if (request.patches === undefined) return { series, ref };
  if (request.patches > series.patches.length || !Number.isInteger(request.patches) || request.patches < 0) {
    throw new Failure(
      'E_USAGE',
      'user',
      `${request.patches} patches are wanted of a series of ${series.patches.length}`,
    );
  }
  return { series: prefixOf(series, request.patches), ref };
}

function ofProfile(profile: Profile): string | undefined {
  return profile.series === null ? undefined : join(projectRoot, 'kernel', 'series', profile.series);
}
