"""What `pyproject.toml` cannot say: where a wheel keeps the folders beside `manage.py`."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# In a checkout these lie at the top, where people look for them, and the settings name them. In a
# wheel they become the app's own folders, where Django looks for them by itself.
APP_FOLDERS = ("templates", "static", "locale")


class BuildWithAppFolders(build_py):
    """Copy templates, static files and catalogues into `daemon_app` of the wheel."""

    def run(self) -> None:
        """Build as always; an editable install needs no copies."""
        super().run()
        if self.editable_mode:
            return
        for folder in APP_FOLDERS:
            source = Path(folder)
            if source.is_dir():
                target = Path(self.build_lib, "daemon_app", folder)
                ignored = shutil.ignore_patterns("*.py", "__pycache__")
                shutil.copytree(source, target, dirs_exist_ok=True, ignore=ignored)


setup(cmdclass={"build_py": BuildWithAppFolders})
