import { Failure } from '#runner/lib/failure.ts';
import type { Profile } from '../profile.ts';
import { debianSource } from './debian-package.ts';
import { localSource } from './local-tree.ts';
import type { SourceContext, SourceTree } from './source-tree.ts';
import { tarballSource } from './tarball.ts';

export interface SourceRequest {
  readonly profile: Profile;
  readonly tree?: string | undefined;
  readonly ref?: string | undefined;
}

/** The user's own tree when there is one; else the profile's package, else its tarball. */
export async function resolveSource(request: SourceRequest, context: SourceContext): Promise<SourceTree> {
  if (request.tree !== undefined) return localSource(request.tree, request.ref, context);
  if (request.ref !== undefined) {
    throw new Failure('E_USAGE', 'user', `a git ref (${request.ref}) needs the tree that it is of`, {
      hint: 'add --tree DIR',
    });
  }
  const { debianPackage, tarball } = request.profile.source;
  if (debianPackage === undefined) return requireTarball(tarball, context);
  try {
    return await debianSource(debianPackage, context);
  } catch (error) {
    const unavailable =
      error instanceof Failure && ['E_SOURCE_UNAVAILABLE', 'E_TOOL_MISSING'].includes(error.code);
    if (!unavailable || tarball === undefined) throw error;
    context.emit({ type: 'note', text: `${error.message}; using the tarball instead` });
    return tarballSource(tarball, context);
  }
}

function requireTarball(tarball: Profile['source']['tarball'], context: SourceContext): Promise<SourceTree> {
  // The schema asks for at least one of both.
  if (tarball === undefined) throw new Error('profile without any source');
  return tarballSource(tarball, context);
}
