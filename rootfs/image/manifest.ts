import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { Failure } from '#runner/lib/failure.ts';

/** What the guest image is made of. The file `manifest.json` beside this one is the one that is used. */
export const Manifest = z.strictObject({
  /** Release of the distribution by codename; without it the one this machine runs. */
  suite: z
    .string()
    .regex(/^[a-z][a-z0-9-]*$/)
    .optional(),
  /** Installed with what they depend on and nothing that they only recommend. */
  packages: z.array(z.string().regex(/^[a-z0-9][a-z0-9+.-]+$/)).min(1),
  /** dpkg path patterns that are not unpacked. */
  exclude: z.array(z.string().startsWith('/')),
  /** Size of the scratch filesystem for backing files. */
  scratchMib: z.int().min(16).max(65_536),
});
export type Manifest = z.infer<typeof Manifest>;

/** @throws Failure E_ROOTFS_MANIFEST (user) naming the file, the key and what it must be. */
export async function readManifest(path: string): Promise<Manifest> {
  let content: unknown;
  try {
    content = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new Failure('E_ROOTFS_MANIFEST', 'user', `${path} cannot be read as JSON`, { cause });
  }
  const result = Manifest.safeParse(content);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new Failure(
    'E_ROOTFS_MANIFEST',
    'user',
    `${path}: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'invalid'}`,
    { cause: result.error },
  );
}
