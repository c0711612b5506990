import type { Client } from './client.ts';
import type { FuseMount, FuseOptions } from './fuse-mount.ts';
import type { TestGuest } from './guest.ts';
import { WITHOUT_PASSTHROUGH } from './registration.ts';
import { ecryptfsOptions, type EcryptfsOptions, type StackedMount } from './stacked-mount.ts';

/** ecryptfs over a plain FUSE server, which is asked for everything that ecryptfs does below. */
interface EcryptfsOnFuse extends AsyncDisposable {
  readonly ecryptfs: StackedMount;
  readonly fuse: FuseMount;
}

export async function ecryptfsOnFuse(
  guest: TestGuest,
  client: Client,
  { more, ...options }: Pick<FuseOptions, 'allowOther'> & Pick<EcryptfsOptions, 'more'> = {},
): Promise<EcryptfsOnFuse> {
  await using undo = new AsyncDisposableStack();
  const plain = { passthrough: 'off', init: WITHOUT_PASSTHROUGH } as const;
  const fuse = undo.use(await guest.mountFuse({ ...plain, ...options }));
  const key = ecryptfsOptions(await guest.ecryptfsKey(), { more });
  const request = { source: fuse.path, type: 'ecryptfs', options: key };
  const ecryptfs = undo.use(await guest.mount(request, client));
  const all = undo.move();
  return { ecryptfs, fuse, [Symbol.asyncDispose]: () => all.disposeAsync() };
}
