//go:build cgo && linux && !greenapi_static

package greenapi_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	greenapi "github.com/greenapi/greenapi/bindings/go"
)

func TestTheLibraryIsOfThisVersion(t *testing.T) {
	if got := greenapi.LibraryVersion(); got != greenapi.Version {
		t.Errorf("libgreenapi is %s, the package %s", got, greenapi.Version)
	}
}

// libraryThatSays builds a library with one function, greenapi_version. Loaded first, the function
// replaces the real one.
func libraryThatSays(t *testing.T, version string) string {
	t.Helper()
	directory := t.TempDir()
	source, library := filepath.Join(directory, "version.c"), filepath.Join(directory, "version.so")
	code := fmt.Sprintf("const char *greenapi_version(void) { return %q; }\n", version)
	if err := os.WriteFile(source, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command("cc", "-shared", "-fPIC", "-o", library, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return library
}

func TestAnotherSeriesOfTheLibraryIsRefused(t *testing.T) {
	for version, works := range map[string]bool{"0.2.99": true, "0.1.0": false, "0.3.0": false, "1.2.0": false, "": false} {
		output := runChild(t, "version", "LD_PRELOAD="+libraryThatSays(t, version))
		if works {
			if output != "made\n" {
				t.Errorf("version %s: %q", version, output)
			}
			continue
		}
		if !strings.Contains(output, version) || !strings.Contains(output, greenapi.Version) || !strings.Contains(output, "install") {
			t.Errorf("version %s: %q does not say what to do", version, output)
		}
	}
}

func init() {
	children["version"] = func() error {
		c, err := greenapi.NewClient("https://localhost", "gac.token")
		if err == nil {
			fmt.Println("made")
			return c.Close()
		}
		once := greenapi.DeleteInstance("https://localhost", "gac.token", 1)
		for _, err := range []error{err, once} {
			if !errors.Is(err, greenapi.ErrLibraryVersion) || !errors.Is(err, greenapi.ErrNotDeleted) {
				return err
			}
		}
		fmt.Println(err)
		return nil
	}
}
